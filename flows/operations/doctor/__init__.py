"""Diagnosis of machine and workspace: checks, findings and a command to fix each problem."""
