"""What several suites share: small real models."""
