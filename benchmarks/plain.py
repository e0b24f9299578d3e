"""The workspace in this folder by the plan, without Prefect, DVC or MLflow."""

from fmbseg.steps.plan import run_plan

if __name__ == "__main__":
    run_plan(".")
