"""Reports: one self-contained page and the same numbers as Markdown, LaTeX, CSV and JSON, a pure function of the scores."""

from pipeline.reports.clips import ClipFiles as ClipFiles
from pipeline.reports.clips import Clips as Clips
from pipeline.reports.clips import FileLoader as FileLoader
from pipeline.reports.clips import clip_loader as clip_loader
from pipeline.reports.comparing import Verdict as Verdict
from pipeline.reports.comparing import compare as compare
from pipeline.reports.comparing import format_comparison as format_comparison
from pipeline.reports.comparing import gate as gate
from pipeline.reports.reading import read_scores as read_scores
from pipeline.reports.writing import write_report as write_report
