"""Measuring an engine on labelled photographs: ``python -m face.evaluate``.

``labels`` reads the set, ``engines`` names what can be measured, ``comparisons`` compares every photograph of a
group with every other, ``rates`` counts errors and their intervals, ``held_out`` fixes thresholds on other persons,
``evaluation`` puts these together, ``report``, ``det`` and ``files`` write what was found.

``duplicates`` (with copies from ``altered``), ``rosters``, ``references`` and ``fusion`` measure the rules around the
comparison, ``tables`` writes them down: ``python -m face.evaluate_rules``. Nothing here runs in the service.
"""
