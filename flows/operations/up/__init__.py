"""Platform of ``modelmill up``: Prefect server and worker, MLflow UI and endpoint, supervised."""
