"""Opt-outs from AI training: signals of sites and pages, and the policy that weighs them."""
