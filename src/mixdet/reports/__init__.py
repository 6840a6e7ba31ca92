"""What people look at: pictures of boxes, and tables of AP."""

from mixdet.reports.drawing import contact_sheet, draw_detections, draw_instances
from mixdet.reports.tables import ap_markdown, ap_table
from mixdet.reports.text import printable

__all__ = ["ap_markdown", "ap_table", "contact_sheet", "draw_detections", "draw_instances", "printable"]
