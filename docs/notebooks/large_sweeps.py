# %% [markdown]
# # large_sweeps

# %%
print(1)
