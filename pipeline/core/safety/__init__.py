"""The embedded safety engine: is a text unsafe, and in which of the eleven categories.

    verdict = judge(text)                      one text
    verdict = judge_texts(texts)               all texts of a request or an answer

Nothing here calls a network or needs more than its arguments: it runs alike in the worker and in a pandas UDF. Engines that ask a
model elsewhere: pipeline/safety.
"""

from pipeline.core.safety.embedded import THRESHOLD, judge, judge_texts
from pipeline.core.safety.verdict import CATEGORIES, SafetyVerdict

__all__ = ["CATEGORIES", "THRESHOLD", "SafetyVerdict", "judge", "judge_texts"]
