"""Panels about missions: the list of them, and all that one mission's page shows."""

# Annotations of what panels are asked are looked at when their routes are made.
from typing import Annotated, Literal

from pydantic import Field

from chimera.core.mission import MissionStatus
from chimera.core.task import TaskStatus
from chimera.core.views import View
from chimera.dashboard.course import LANES, CoursePanel, course, plain_course
from chimera.dashboard.film import Film
from chimera.dashboard.films import TooLong
from chimera.dashboard.missionhead import MissionHead, is_over, mission_head
from chimera.dashboard.missionlist import MissionList, Wanted, mission_list
from chimera.dashboard.resultlist import ResultList, result_list
from chimera.dashboard.scene import ScenePanel, plain_scene, scene
from chimera.dashboard.steps import StepsPanel, plain_steps, steps
from chimera.dashboard.taskdetail import TaskDetail, task_detail
from chimera.dashboard.tasktable import TaskTable, plain_table, select, span, task_table
from chimera.errors import InvalidRequest, NotFound
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight
from chimera.serving.gateway.reasons import reasons
from chimera.serving.gateway.render import action_view, dependencies, mission_view, task_view
from chimera.store.newest import owner_of
from chimera.store.readings import Reading
from chimera.store.tasks import mission_of

MOST_MISSION_ID, MOST_ID = 64, 128
"""Characters of a mission's id, and of a task's: none is longer."""
MissionId = Annotated[str, Field(min_length=1, max_length=MOST_MISSION_ID, description="The mission's id.")]
Page = Annotated[int, Field(ge=0, le=1_000_000, description="From 0.")]
Layers = Annotated[
    str,
    Field(
        pattern=r"^(\d{1,4}(-\d{1,4})?)?$",
        description="Layers of its plan, from 0: `2`, or `2-5`; empty for all.",
    ),
]


class AskedList(Asked):
    """Which missions a list shows."""

    status: MissionStatus | Literal[""] = Field("", description="Only those of this status.")
    agent: str = Field("", max_length=64, description="Only those of this agent.")
    text: str = Field("", max_length=200, description="Stands in its goal, or is how its id begins.")
    archived: bool = Field(False, description="Those that are archived; else those that are not.")
    after: str = Field("", max_length=160, description="`next` of the page before.")


class AskedMission(Asked):
    """Which mission."""

    mission: MissionId


class AskedScene(AskedMission):
    """Which moment of it."""

    at: int | None = Field(None, ge=0, description="Behind so many of its events; without it the newest.")


class AskedTasks(AskedMission):
    """Which of its tasks."""

    status: TaskStatus | Literal["", "UNPLANNED"] = Field("", description="Only those of this status.")
    layers: Layers = ""
    page: Page = 0


class AskedTask(Asked):
    """Which task."""

    task: str = Field(min_length=1, max_length=MOST_ID, description="Its id.")


class AskedResults(AskedMission):
    """Which of its results."""

    after: Annotated[int, Field(ge=0, le=10_000_000, description="The position of a task to begin at.")] = 0


async def whose_mission(sight: Sight, mission_id: str) -> str:
    """The tenant whose mission it is.

    Raises:
        NotFound: no mission of that id is in Redis, and no tenant was named.
    """
    if not sight.whole:
        return sight.tenants[0]
    owner = await owner_of(sight.hub.base.redis, sight.tenants, mission_id)
    if owner is None:
        raise NotFound(
            f"there is no mission {mission_id!r} in Redis; of an archived one choose the tenant first"
        )
    return owner


async def _opened(sight: Sight, mission_id: str) -> tuple[str, Reading]:
    tenant = await whose_mission(sight, mission_id)
    return tenant, await sight.hub.base.of(tenant).readings.open(mission_id)


async def _film(sight: Sight, tenant: str, reading: Reading) -> tuple[Film | None, bool, bool]:
    """Its film, if it is not too long for one; whether that is whole; whether the mission is over."""
    over = is_over(reading.mission.status, reading.mission.counts)
    try:
        film, whole = await sight.hub.films.film(sight.hub.base, tenant, reading.mission)
    except TooLong:
        return None, True, over
    return film, whole, over


async def _missions(sight: Sight, asked: AskedList) -> View:
    wanted = Wanted(status=asked.status, agent=asked.agent, text=asked.text)
    return await mission_list(
        sight.hub.base, sight.tenants, wanted, archived=asked.archived, after=asked.after
    )


async def _head(sight: Sight, asked: AskedMission) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    now_us = await sight.hub.base.of(tenant).missions.now_us()
    return mission_head(mission_view(reading.mission, tenant), now_us)


async def _scene(sight: Sight, asked: AskedScene) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    film, whole, over = await _film(sight, tenant, reading)
    if film is None:
        return plain_scene(reading.mission, tenant=tenant, over=over)
    return scene(
        film,
        tenant=tenant,
        at=asked.at,
        whole=whole,
        over=over,
        total_tasks=reading.mission.total_tasks,
        budget=reading.mission.budget_microusd,
    )


async def _course(sight: Sight, asked: AskedTasks) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    film, whole, over = await _film(sight, tenant, reading)
    if film is None:
        return plain_course(reading.mission, tenant=tenant)
    layers = span(asked.layers, len(film.roster.layers))
    of = sum(film.roster.layers[layer].size for layer in range(*layers))
    page = min(asked.page, max(0, -(-of // LANES) - 1))
    numbers = select(film, "", layers, page * LANES, LANES)
    return course(
        film, tenant=tenant, whole=whole, over=over, numbers=numbers, page=page, of=of, layers=asked.layers
    )


async def _steps(sight: Sight, asked: AskedMission) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    film, whole, over = await _film(sight, tenant, reading)
    if film is None:
        return plain_steps(reading.mission, tenant=tenant)
    return steps(film, tenant=tenant, whole=whole, over=over)


async def _tasks(sight: Sight, asked: AskedTasks) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    film, whole, over = await _film(sight, tenant, reading)
    explain = await reasons(sight.hub.base, tenant, reading)
    if film is None:
        return await plain_table(reading, tenant=tenant, over=over, page=asked.page, explain=explain)
    return await task_table(
        film,
        reading,
        tenant=tenant,
        whole=whole,
        over=over,
        status=asked.status,
        layers=asked.layers,
        page=asked.page,
        explain=explain,
    )


async def _task(sight: Sight, asked: AskedTask) -> View:
    tenant, reading = await _opened(sight, mission_of(asked.task))
    film, _, over = await _film(sight, tenant, reading)
    record, actions = await reading.task(asked.task)
    inputs = await reading.results(dependencies(record))
    task = task_view(record, reading.mission, inputs, [action_view(one, tenant) for one in actions])
    why = None
    if not over:
        explain = await reasons(sight.hub.base, tenant, reading)
        why = await explain(asked.task)
    trail = await sight.hub.trails.trail(sight.hub.base.of(tenant), tenant, task)
    return task_detail(trail, film, task, tenant=tenant, why=why, over=over)


async def _results(sight: Sight, asked: AskedResults) -> View:
    tenant, reading = await _opened(sight, asked.mission)
    if asked.after > reading.mission.total_tasks:
        raise InvalidRequest(f"mission {asked.mission} has {reading.mission.total_tasks:,} tasks")
    over = is_over(reading.mission.status, reading.mission.counts)
    return await result_list(reading, tenant=tenant, after=asked.after, over=over)


LIST = Panel(
    "missions",
    "Missions",
    MissionList,
    _missions,
    "Missions, newest first, of one tenant or of all.",
    AskedList,
)
HEAD = Panel(
    "mission",
    "Mission",
    MissionHead,
    _head,
    "What a mission says of itself: status, what to do next, money, counts, times.",
    AskedMission,
)
SCENE = Panel(
    "mission-scene",
    "At this moment",
    ScenePanel,
    _scene,
    "A mission behind any of its events: its graph, its tasks by status, its money.",
    AskedScene,
)
COURSE = Panel(
    "mission-course",
    "Timeline",
    CoursePanel,
    _course,
    "Where a mission's tasks stood over time; of many, how many stood where.",
    AskedTasks,
)
STEPS = Panel(
    "mission-steps",
    "Cost and time by step",
    StepsPanel,
    _steps,
    "What each step of a mission cost, how many attempts it took, and where its time went.",
    AskedMission,
)
TASKS = Panel(
    "mission-tasks",
    "Tasks",
    TaskTable,
    _tasks,
    "A mission's tasks by the page, of a status or a layer, and why each waits.",
    AskedTasks,
)
TASK = Panel(
    "mission-task",
    "Task",
    TaskDetail,
    _task,
    "A task with all that became of it.",
    AskedTask,
)
RESULTS = Panel(
    "mission-results",
    "Results",
    ResultList,
    _results,
    "A mission's accepted results by the page.",
    AskedResults,
)
PANELS = (LIST, HEAD, SCENE, COURSE, STEPS, TASKS, TASK, RESULTS)
