"""What every service's process does alike: settings, its command, its ready file, its folder.

Imported by the services only, which bring pydantic-settings and SQLAlchemy along.
"""
