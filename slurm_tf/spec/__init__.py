"""What is asked for: a job file and a site profile, fitted into a plan."""
