//! The files that a program may use, by Landlock.
use super::python::Python;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};
use std::path::Path;

/// Devices that a program may use.
pub const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Leaves this thread, and what it executes, the interpreter's files to read and the scratch folder to write: for good.
/// Where the kernel's Landlock knows of TCP, of abstract sockets and of signals, these are shut off, too.
///
/// # Errors
/// When the kernel has no Landlock.
pub fn allow_only(python: &Python, scratch: &Path) -> Result<(), String> {
    let enforced = restrict(python, scratch).map_err(|e| format!("Landlock: {e}"))?;
    if enforced == RulesetStatus::NotEnforced {
        return Err(
            "this kernel has no Landlock (Linux 5.13, and `landlock` in its LSM list)".into(),
        );
    }
    Ok(())
}

fn restrict(python: &Python, scratch: &Path) -> Result<RulesetStatus, landlock::RulesetError> {
    let read = AccessFs::from_read(ABI::V1);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    // No sockets, pipes and devices, and nothing to execute.
    let scratch_access = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(&python.readable, read))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules([scratch], scratch_access))?
        .restrict_self()?;
    Ok(status.ruleset)
}
