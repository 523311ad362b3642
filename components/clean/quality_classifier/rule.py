"""Rules on the probabilities of classifiers that learnt from the user's examples."""

from __future__ import annotations

from pydantic import Field

from components.clean.selection_rule import BoundsRule, RuleFinding, ScoredShard


class ProbabilityRule(BoundsRule):
    """Bounds on a probability, where there is one: without examples no classifier was trained."""

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        (role,) = self.roles
        untrained = shard.scores[role]["probability"].null_count
        return [] if untrained else super().check_documents(shard)


class JudgedQualityRule(ProbabilityRule):
    """Bound on the classifier that learnt from the user's examples of good documents."""

    roles = ("judged_quality",)
    min_probability: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="smallest probability of being good; without examples every document passes. "
        "On another kind of pages than the examples' a quantile says more",
    )


class ToxicityRule(ProbabilityRule):
    """Bound on the classifier that learnt from the user's examples of toxic documents."""

    roles = ("toxicity",)
    max_probability: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest probability of being toxic; without examples every document passes",
    )
