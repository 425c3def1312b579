"""Workflows of language-model roles, simulated: no model is run, success probabilities are published accuracies.

The three workflows of arXiv 2605.24202: ``eval_opt``, ``voting`` and ``orch_workers``. ``published.py`` has the
numbers, ``rules.py`` says what a workflow is and lists it, ``env.py`` is the IC-SMDP for all of them, ``model.py`` its
exact form, and ``picture.py`` draws who hands to whom.
"""

from icsmdp_jax.envs.role_workflows.env import RoleParams, RoleWorkflow, workflow
from icsmdp_jax.envs.role_workflows.eval_opt import EvalOpt, eval_opt
from icsmdp_jax.envs.role_workflows.model import Worth, worth
from icsmdp_jax.envs.role_workflows.orch_workers import OrchWorkers, orch_workers
from icsmdp_jax.envs.role_workflows.published import Settings
from icsmdp_jax.envs.role_workflows.rules import Branch, Listing, Rules, listed
from icsmdp_jax.envs.role_workflows.voting import Voting, voting

__all__ = [
    "Branch",
    "EvalOpt",
    "Listing",
    "OrchWorkers",
    "RoleParams",
    "RoleWorkflow",
    "Rules",
    "Settings",
    "Voting",
    "Worth",
    "eval_opt",
    "listed",
    "orch_workers",
    "voting",
    "workflow",
    "worth",
]
