"""One of our environments in a PettingZoo loop: python examples/run_in_pettingzoo.py (extra ``adapters``).

``reward`` is what the team earned since the agent's last turn; ``info`` says how long the last option took.
"""

import icsmdp_jax as ic

game = ic.to_pettingzoo(*ic.make("eval-opt"), limit=200)
game.reset(seed=0)
earned, steps = 0.0, 0
for agent in game.agent_iter():
    seen, reward, terminated, truncated, info = game.last()
    over = terminated or truncated
    game.step(None if over else game.action_space(agent).sample(seen["action_mask"]))
    if not over:
        about = next(iter(game.infos.values()))
        earned, steps = earned + about["reward"], steps + about["duration"]
print(f"{game.metadata['name']}: {earned:.1f} earned in {steps} primitive steps, nobody left: {game.agents == []}")
