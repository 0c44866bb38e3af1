"""Banks of answers: for every exercise wrong ones, each with the case that must name its mistake, and right ones.

python -m tests.banks          print the table of kills
"""
