//! Conservation: what came in is what left plus what is here (rule 9 of the design).

/// What came, what left and what is here. Kept for each namespace; never goes down, but for `in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows found in the store at start.
    pub loaded: u64,
    /// Admitted from the source.
    pub admitted: u64,
    /// Completed.
    pub completed: u64,
    /// Failed for good and removed.
    pub discarded: u64,
    /// Failed for good and published to the dead-letter topic.
    pub dead_lettered: u64,
    /// Not run before their time was over.
    pub expired: u64,
    /// Published to the retry topic.
    pub retried: u64,
    /// Forwarded to another topic.
    pub forwarded: u64,
    /// Dropped by a rule.
    pub dropped: u64,
    /// Left to the next reader of a lost partition.
    pub withdrawn: u64,
    /// Here, in whatever state.
    pub in_flight: u64,
}

impl Counts {
    /// What came in less what left and what is here: 0, or something is wrong.
    pub fn imbalance(&self) -> i64 {
        let came = self.loaded + self.admitted;
        let finished = self.completed + self.discarded + self.dead_lettered + self.expired;
        let left = finished + self.retried + self.forwarded + self.dropped + self.withdrawn;
        i64::try_from(i128::from(came) - i128::from(left + self.in_flight)).unwrap_or(i64::MAX)
    }

    /// Adds another namespace's.
    pub fn add(&mut self, other: &Self) {
        self.loaded += other.loaded;
        self.admitted += other.admitted;
        self.completed += other.completed;
        self.discarded += other.discarded;
        self.dead_lettered += other.dead_lettered;
        self.expired += other.expired;
        self.retried += other.retried;
        self.forwarded += other.forwarded;
        self.dropped += other.dropped;
        self.withdrawn += other.withdrawn;
        self.in_flight += other.in_flight;
    }
}
