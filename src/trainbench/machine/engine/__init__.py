"""The Docker engine that this user means, and what its containers see of this machine.

``settings.py`` imports this where nothing but Popper is installed: no package besides ``docker``.
"""
