"""Where `reconciler.objects.work` was; it holds nothing of its own."""

from reconciler.objects.work import ObjectToStage, SchemaToStage, Work, work_of

__all__ = ["ObjectToStage", "SchemaToStage", "Work", "work_of"]
