"""What a run's status says of tasks that others wait for."""


def slowness(own: float, others: float, seconds: float) -> str:
    """Return in words how much longer a task works in each step than others do, and for how long it does."""
    times = f"{own / others:.1f} times" if others > 0 else "far more than"
    return f"works {own:.3g} s by itself in each step, {times} the {others:.3g} s of the others, for {seconds:.0f} s"
