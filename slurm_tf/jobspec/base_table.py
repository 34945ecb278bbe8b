"""A table of TOML as a class, and the types that the keys of several tables have."""

from typing import Annotated

from msgspec import Meta, Struct

# A duration or an amount of memory may be a bare number: minutes or MiB, as for sbatch.
Amount = str | Annotated[int, Meta(ge=0)]


class Base(Struct, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-"), frozen=True, kw_only=True):
    """A table of TOML: its keys are written with dashes, and an unknown key is an error."""
