//! What goes wrong, as events.

use crate::{
    Time,
    random::Random,
    scenario::{Scenario, Trouble},
};

/// What is done to a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Its runs take so many times as long from now on.
    Pace(f64),
    /// Such a share of its calls fails from now on.
    Failing(f64),
    Death,
}

/// All of a scenario but for updates: when, to whom, and what.
pub(crate) fn faults(scenario: &Scenario) -> Vec<(Time, usize, Fault)> {
    let mut faults = Vec::new();
    let mut random = Random::new(scenario.seed, "deaths", 0);
    for trouble in &scenario.troubles {
        match *trouble {
            Trouble::Slow { replica, times, from_s, for_s } => {
                faults.push((from_s, replica, Fault::Pace(times)));
                faults.push((from_s + for_s, replica, Fault::Pace(1.0)));
            }
            Trouble::Fails { replica, share, from_s, for_s } => {
                faults.push((from_s, replica, Fault::Failing(share)));
                faults.push((from_s + for_s, replica, Fault::Failing(0.0)));
            }
            Trouble::Dies { replica, at_s } => faults.push((at_s, replica, Fault::Death)),
            Trouble::DiesAtRandom { every_s } => {
                for replica in 0..scenario.replicas {
                    let mut at_s = random.exponential(every_s);
                    while at_s < scenario.seconds {
                        faults.push((at_s, replica, Fault::Death));
                        at_s += random.exponential(every_s);
                    }
                }
            }
            Trouble::RollingUpdate { .. } => (),
        }
    }
    faults.into_iter().map(|(at_s, replica, fault)| (Time::from_secs_f64(at_s), replica, fault)).collect()
}

/// Updates: when, and how many replicas at a time.
pub(crate) fn updates(scenario: &Scenario) -> impl Iterator<Item = (Time, usize)> {
    scenario.troubles.iter().filter_map(|trouble| match *trouble {
        Trouble::RollingUpdate { from_s, at_once } => Some((Time::from_secs_f64(from_s), at_once.max(1))),
        _ => None,
    })
}
