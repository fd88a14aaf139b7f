"""The DAG, the profiles that configure it, and the command line."""
