"""Studies: methods and seeds on fleets, tuned by one rule, put side by side.

A study file (TOML) has these keys; `examples/studies/fedasmu.toml` shows them at work.

    name, title, seeds, compared, default_scale, grid, changes, notes
    [[dataset]]     name, fleet, task, virtual_s, evaluations, test_examples, targets, changes
    [[method]]      name, follows, grid, changes
    [tuning]        seed, horizon, last
    [targets]       shares, step
    [claims]        points, saving, says, source
    [[contrast]]    method, against, claims
    [scale.NAME]    datasets, methods, seeds, devices, examples_per_device, horizon, evaluations,
                    test_examples, tuned, grid, wall_s, changes, rounds

Changes are keys of a task file with the values they are set to. They add up: those of the study,
the dataset and the scale, then of the method (after those of the method that it follows, and that
one's chosen point), then, for a method of rounds, the scale's for these, and last the point of the
grid.
"""
