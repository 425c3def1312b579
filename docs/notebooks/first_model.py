# %% [markdown]
# # A first model
#
# A clerk and an expert answer letters. Some letters are hard, and neither sees which: the clerk sees a letter, the
# expert sees that it came from the clerk. Both are interfaces that hide the same bit. We write the model down,
# compute what can be known of it, and let IC-Q learn it.

# %%
import jax
import numpy as np

import icsmdp_jax as ic

# %% [markdown]
# ## Writing it down
#
# A state says who holds the letter and whether it is easy or hard. Option 0 answers it, and the next letter arrives
# at the clerk; option 1 hands it to the other agent. An answer takes some hours, during which time is discounted.

# %%
EASY_CLERK, HARD_CLERK, EASY_EXPERT, HARD_EXPERT = range(4)
arrivals = [0.7, 0.3, 0.0, 0.0]  # seven of ten letters are easy; each begins at the clerk

transition = np.zeros((4, 2, 4))  # [S, O, S] who holds what next
transition[:, 0] = arrivals
transition[EASY_CLERK, 1, EASY_EXPERT] = transition[HARD_CLERK, 1, HARD_EXPERT] = 1
transition[EASY_EXPERT, 1, EASY_CLERK] = transition[HARD_EXPERT, 1, HARD_CLERK] = 1

duration = np.zeros((4, 2, 3))  # [S, O, T] law of 1, 2 or 3 hours
duration[:, 1, 0] = 1  # handing over takes one
duration[[EASY_CLERK, EASY_EXPERT], 0] = [0.5, 0.5, 0]
duration[[HARD_CLERK, HARD_EXPERT], 0] = [0, 0.5, 0.5]

paid = np.zeros((4, 2))  # [S, O] at the end of an answer: right or wrong
paid[[EASY_CLERK, EASY_EXPERT, HARD_EXPERT], 0] = [1.0, 1.0, 2.0]
paid[HARD_CLERK, 0] = -1.0

model = ic.TabularModel(
    transition=transition,
    duration=duration,
    reward_rate=np.zeros((4, 2)),
    lump_reward=paid,
    agent=[0, 0, 1, 1],
    interface=[0, 0, 1, 1],  # each agent sees one thing only: that it has a letter
    gamma=0.95,
    agent_name=["clerk", "expert"],
    option_name=["answer", "hand over"],
)
model

# %% [markdown]
# ## What is known without sampling
#
# `analyse` computes every constant of the bound, in float64. The interface gap is what hiding the bit costs: the
# largest distance between the value that an interface promises and the value known to an oracle that sees the whole
# state.

# %%
known = ic.analyse(model)
print(known.sentence)
print(f"gap {known.interface_gap:.3f}, at most {known.interface_bound:.3f} (T1), modulus {known.gamma_bar:.3f} (D2)")

# %% [markdown]
# `solve` gives the solutions themselves: `q_interface` is what IC-Q converges to, `q_star` is the oracle's. The clerk
# should hand over, although most of its letters are easy.

# %%
solved = ic.solve(model)
print("interface (clerk, expert) x (answer, hand over):", solved.q_interface.round(2), sep="\n")
print("oracle, by state:", solved.q_star.round(2), sep="\n")

# %% [markdown]
# ## Learning it
#
# IC-Q knows none of these arrays. After each handoff the agent that now has the letter tells the previous one a
# single number, and only the previous one learns. Eight runs side by side, with random options throughout, as
# `analyse` assumes:

# %%
icq = ic.setup(model, None, method="ic_q", copies=16, length=8, exploration=ic.ramp(1.0, 1.0, 1))
state, curves = ic.train(icq, jax.random.key(0), updates=2000, seeds=8)
tables = np.stack([icq.tables(jax.tree.map(lambda leaf, i=i: leaf[i], state.params)) for i in range(8)])
error = np.abs(tables.mean(axis=0) - solved.q_interface).max()
print(f"largest error of the mean over runs {error:.3f}; spread over runs {tables.std(axis=0).max():.3f}")
print("greedy:", [str(model.option_name[option]) for option in tables.mean(axis=0).argmax(axis=1)])

# %% [markdown]
# ## What would it be worth to see the bit?
#
# `fields` tell what a state consists of, so that `advise` can ask what each agent would gain from seeing more.

# %%
shown = model.replace(
    fields=[[0, 0], [0, 1], [1, 0], [1, 1]],
    field_name=["holder", "hard"],
    visible=[[True, False], [True, False]],
)
print(ic.advise(shown))

# %% [markdown]
# Showing the bit to the clerk alone closes the loss: it keeps what is easy. Next: an environment that is no table, in
# *An environment of your own*; or the error of this learner, term by term, in *The bound, step by step*.
