"""The panels of the report: one file for what each counts, and a template of the same name.

Each panel is a function of what was read that returns what its template prints. An empty panel is
``{}``: its template says in one line why.
"""
