"""What a budget allows, said once more for the tests: the ledger says it in SQL."""

from __future__ import annotations

from secure_fair.privacy.accountant import Budget, Cost


def allows(budget: Budget, cost: Cost) -> bool:
    """Whether a person may have spent so much."""
    rho, pure = budget.limits
    return cost.rho <= rho or (cost.pure is not None and cost.pure <= pure)
