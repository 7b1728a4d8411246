"""A run folder -> one self-contained HTML page, to see whether the features are what one thinks.

`clips/gather.py` collects what is shown, `pixels.py` decodes what the model saw, `charts.py` draws,
`sections.py` and `page.py` write HTML.
"""

from tubelet.report.build import write_report
from tubelet.report.model import Choices

__all__ = ["Choices", "write_report"]
