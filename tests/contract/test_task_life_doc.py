"""docs/task-life.md says what the code says: which command is allowed when, what the diagram shows, what follows.

That its cells are true of the service is tested in tests/service/test_task_life.py.
"""

from checkin_service.domain.case import what_follows
from checkin_service.domain.task import ALLOWED_IN, Flow, TaskCommand, TaskState
from tests.task_life import COMMANDS, EDGES, PAGE, REFUSED, ROWS, TABLE, THERE, state_of


def test_the_table_has_every_command_and_every_state() -> None:
    assert [str(command) for command in TaskCommand] == COMMANDS
    assert {state_of(row) for row in ROWS} == {*TaskState, "closed"}


def test_commands_are_allowed_in_the_states_that_the_code_allows() -> None:
    taken = {
        command: {
            state_of(row) for row in ROWS if row != "closed" and TABLE[row, command] not in {REFUSED, THERE}
        }
        for command in COMMANDS
    }
    assert taken == {str(command): set(states) for command, states in ALLOWED_IN.items()}


def test_the_diagram_shows_every_command_that_leads_to_another_state() -> None:
    drawn = {edge for edge in EDGES if edge[2] in COMMANDS}
    told = {
        (state_of(row), cell, command)
        for (row, command), cell in TABLE.items()
        if cell not in {REFUSED, THERE, state_of(row)}
    }
    assert drawn == told


def test_what_follows_is_told_for_every_flow_and_state() -> None:
    section = PAGE.split("## Rounds")[1]
    for flow in Flow:
        for state in TaskState:
            follows = what_follows(flow, state)
            # no acceptance of a first application can be revoked
            impossible = flow is Flow.FIRST_APPLICATION and state is TaskState.INVALIDATED
            if follows and not impossible:
                named = "any" if state is TaskState.COMPLETED else f"`{flow}`"
                row = next(line for line in section.splitlines() if f"| `{follows}`" in line)
                assert row.startswith(f"| {named} |"), row
                assert f"`{state}`" in row
