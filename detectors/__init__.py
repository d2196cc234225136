"""Events into observations: Sigma rules, correlations, behaviour profiles and isolation forests."""
