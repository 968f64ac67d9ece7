"""What is known of models in service: drift, quality, objectives, alerts, dashboards, and who else is told.

In: metrics, sampled rows, references, objectives of the manifest.
Out: drift reports with evidence, rules for Prometheus, dashboards, captured requests as Parquet, runs in MLflow.
Never: changing traffic; it says what it sees, and rollout decides.
Read: one folder a subject, none of which knows another.
"""
