# %% [markdown]
# # bound_by_step

# %%
print(1)
