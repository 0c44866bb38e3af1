"""How an answer is judged: cases, the guard they run under, verdicts, progress, and hand-ins read from notebooks.

No imports here, on purpose: pytest loads `wmcourse.grading.pytest_plugin` at every start and must not pay for torch.
"""
