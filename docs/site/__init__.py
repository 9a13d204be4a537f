"""What makes the documentation: pages of the reference from the code, and the site from all pages.

Not part of the installed package.
"""
