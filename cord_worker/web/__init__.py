"""The web view: shows runs in the browser, from a server, from a folder of files (bundle) or from one file (report)."""
