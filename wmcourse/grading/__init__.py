"""How an answer is judged: cases, the guard they run under, verdicts, progress, and hand-ins read from notebooks.

Left empty of imports on purpose: pytest loads `wmcourse.grading.pytest_plugin` at every start, and must not pay for torch.
"""
