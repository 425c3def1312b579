# %% [markdown]
# # first_model

# %%
print(1)
