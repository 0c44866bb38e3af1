"""World models, built by you: the reference package of the course.

Flat modules, named by the field's own terms, in lesson order; `worlds`, `replay`, `nets` and `plots` are shared.
School work stands beside them: `exercises` (what is asked), `grading` (how it is judged), `authoring` (how lessons
are made). One legend of axis letters holds everywhere:

    B batch · T time · H horizon · N candidates · M members · A action · O observation · Z latent
    D deter · S stoch · E embed · K classes
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("wmcourse")
except PackageNotFoundError:  # a source tree that nobody installed
    __version__ = "0+unknown"
