//! What happens to a planner.

use hotpath_generation::planner::Class;
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub enum Event {
    Arrive(Arrival),
    /// The next turn of a conversation: what was asked, what its first choice said, and some tokens more.
    Follow(Index, Arrival),
    Next,
    /// Runs of batch work are to take so long from now on, in milliseconds, or as long as they do.
    TimeSlice(Option<u64>),
    /// The next run fails for one of its requests, whichever it is.
    Fail(Index),
    Cancel(Index),
    Pause(Index),
    Resume(Index),
    Hold(Index, usize),
    GoOn(Index, usize),
    Wait(u64),
}

#[derive(Debug, Clone)]
pub struct Arrival {
    pub class: Class,
    pub key: usize,
    pub prompt: Vec<u32>,
    pub max_tokens: usize,
    /// For each choice, how many tokens it says.
    pub says: Vec<usize>,
    pub deadline: Option<u64>,
}
