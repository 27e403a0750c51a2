"""A main platform and any number of persons with phones, who call the HTTP API of a running service.

What happened is held against what should have happened: `behaviours.BEHAVIOURS` says what each kind of person sends
and must be answered, `platform` what the status and the feed must say of it afterwards. Nothing but the API is used,
besides the development key, which signs the callers' tokens.
"""

from checkin_service.simulator.behaviours import BEHAVIOURS
from checkin_service.simulator.client import SimulationError
from checkin_service.simulator.options import Options, add_options, read_options
from checkin_service.simulator.report import Report
from checkin_service.simulator.simulate import simulate

__all__ = ["BEHAVIOURS", "Options", "Report", "SimulationError", "add_options", "read_options", "simulate"]
