"""Python imports a module of this name at its start."""

import offline_guard  # noqa: F401
