//! How much room the disk has.

use std::path::Path;

/// Bytes that this user may still write to the file system on which the file is, or is to be; none where that cannot be
/// learned.
pub(crate) fn room(path: &Path) -> Option<u64> {
    let found = statvfs(path)?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The size in bytes of the file system on which the file is, or is to be; none where that cannot be learned.
pub fn volume_bytes(path: &Path) -> Option<u64> {
    let found = statvfs(path)?;
    Some(found.f_blocks.saturating_mul(found.f_frsize))
}

fn statvfs(path: &Path) -> Option<rustix::fs::StatVfs> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(directory).ok()
}
