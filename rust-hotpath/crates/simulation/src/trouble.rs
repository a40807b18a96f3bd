//! What goes wrong, as events.

use crate::{
    Time,
    random::Random,
    scenario::{Scenario, Trouble},
};

/// What is done to a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Blow {
    /// Its runs take so many times as long from now on.
    Pace(f64),
    /// Such a share of its calls fails from now on.
    Failing(f64),
    Death,
}

/// All of a scenario but for updates: when, to whom, and what.
pub(crate) fn blows(scenario: &Scenario) -> Vec<(Time, usize, Blow)> {
    let mut blows = Vec::new();
    let mut random = Random::new(scenario.seed, "deaths", 0);
    for trouble in &scenario.troubles {
        match *trouble {
            Trouble::Slow { replica, times, from_s, for_s } => {
                blows.push((from_s, replica, Blow::Pace(times)));
                blows.push((from_s + for_s, replica, Blow::Pace(1.0)));
            }
            Trouble::Fails { replica, share, from_s, for_s } => {
                blows.push((from_s, replica, Blow::Failing(share)));
                blows.push((from_s + for_s, replica, Blow::Failing(0.0)));
            }
            Trouble::Dies { replica, at_s } => blows.push((at_s, replica, Blow::Death)),
            Trouble::DiesAtRandom { every_s } => {
                for replica in 0..scenario.replicas {
                    let mut at_s = random.exponential(every_s);
                    while at_s < scenario.seconds {
                        blows.push((at_s, replica, Blow::Death));
                        at_s += random.exponential(every_s);
                    }
                }
            }
            Trouble::RollingUpdate { .. } => (),
        }
    }
    blows.retain(|(_, replica, _)| *replica < scenario.replicas);
    blows.into_iter().map(|(at_s, replica, blow)| (Time::from_secs_f64(at_s.max(0.0)), replica, blow)).collect()
}

/// Updates: when, and how many replicas at a time.
pub(crate) fn updates(scenario: &Scenario) -> impl Iterator<Item = (Time, usize)> {
    scenario.troubles.iter().filter_map(|trouble| match *trouble {
        Trouble::RollingUpdate { from_s, at_once } => Some((Time::from_secs_f64(from_s.max(0.0)), at_once.max(1))),
        _ => None,
    })
}
