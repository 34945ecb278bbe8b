"""The views beside those of runs: what they import takes as long as a list of a thousand runs, which comes first."""

from starlette.routing import Route, Router

from slurm_tf.page.cluster_views import ClusterViews
from slurm_tf.page.context import PageContext
from slurm_tf.page.data_sets import DataSetViews
from slurm_tf.page.export_views import ExportViews
from slurm_tf.page.model_views import ModelViews
from slurm_tf.page.new_run_views import NewRunViews
from slurm_tf.page.org_views import OrgViews
from slurm_tf.page.quota_views import QuotaViews
from slurm_tf.page.service_views import ServiceViews
from slurm_tf.page.try_views import TryViews
from slurm_tf.page.usage_views import UsageViews


def router(context: PageContext) -> Router:
    """Return what answers requests for these views, and for addresses that there are not."""
    views = (
        NewRunViews(context),
        DataSetViews(context),
        ExportViews(context),
        ModelViews(context),
        ServiceViews(context),
        TryViews(context),
        UsageViews(context),
        QuotaViews(context),
        ClusterViews(context),
        OrgViews(context),
    )
    routes: list[Route] = [route for each in views for route in each.routes()]
    return Router(routes=routes)
