"""Reads job files and site profiles, fits a job to its site as a plan, and compares a profile with the cluster."""

# what other rooms may import
__all__ = [
    "checks",
    "components",
    "configuration",
    "container_runtimes",
    "containers",
    "directives",
    "error_list",
    "first_job_file",
    "gpu_types",
    "job_file",
    "job_templates",
    "layers",
    "params",
    "plan",
    "program_outline",
    "sbatch_options",
    "site_comparison",
    "site_detection",
    "site_variables",
    "sites",
    "step_container",
    "sweep",
    "toml_entries",
    "train_lines",
]
