"""Where services run: one small protocol, and a module for each runtime behind it.

It knows no spec, no plan and no database: who calls it says what is to run, and reads what does.
"""
