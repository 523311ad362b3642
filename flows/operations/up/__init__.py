"""``modelmill up``: Prefect's server and worker, MLflow's UI and the endpoint, kept together."""
