"""The search for dropout vectors (DISTREAL's design-space exploration). Pure; pymoo in one file."""
