# %% [markdown]
# # own_environment

# %%
print(1)
