//! Making a mount: by mount(2) for root, through `fusermount3` for everybody else.

use super::device::Device;
use super::mount::{MountError, MountSpec};
use super::mountinfo;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};

/// Where `fusermount3` finds the socket through which it passes the descriptor on.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// The mount(2) call itself, so that type, subtype and flags are ours to choose.
///
/// # Errors
/// See [`MountError`].
pub(super) fn as_root(spec: &MountSpec) -> Result<Device, MountError> {
    let device = Device::open().map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => MountError::NoDevice(errno.into()),
        other => sort(other.into()),
    })?;
    let mut data =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.number());
    if spec.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).expect("numbers and words");
    rustix::mount::mount(
        source(spec).as_str(),
        &spec.mountpoint,
        mountinfo::FS_TYPE,
        mount_flags(spec),
        data.as_c_str(),
    )
    .map_err(|errno| match errno {
        Errno::NODEV => MountError::NoDevice(errno.into()),
        other => sort(other.into()),
    })?;
    Ok(device)
}

/// Lets `fusermount3` mount, which is set-user-id root and refuses suid and dev anyhow.
///
/// # Errors
/// See [`MountError`]; the text is what it said.
pub(super) fn as_user(spec: &MountSpec) -> Result<Device, MountError> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| MountError::Other(errno.into()))?;
    let mut child = {
        let mut command = Command::new("fusermount3");
        command.arg("-o").arg(user_options(spec)).arg("--").arg(&spec.mountpoint);
        // Its standard input is the socket. It goes with `command`: else its end would not be seen.
        command.stdin(theirs).env(SOCKET_VARIABLE, "0");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(MountError::Other)?
    };
    let received = receive(&ours);
    drop(ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = io::Read::read_to_string(&mut stderr, &mut said);
    }
    let status = child.wait().map_err(MountError::Other)?;
    match received {
        Some(fd) => Ok(Device::from(fd)),
        None => Err(refusal(said.trim(), status)),
    }
}

fn refusal(said: &str, status: std::process::ExitStatus) -> MountError {
    let text =
        if said.is_empty() { format!("fusermount3 ended with {status}") } else { said.to_string() };
    let lower = text.to_lowercase();
    if lower.contains("user_allow_other")
        || lower.contains("permission")
        || lower.contains("permitted")
    {
        MountError::Permission(io::Error::new(io::ErrorKind::PermissionDenied, text))
    } else {
        MountError::Other(io::Error::other(text))
    }
}

/// The descriptor that was passed; `None` when the other end closes without.
fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::debug!(%error, "no descriptor from fusermount3");
                return None;
            }
            Ok(_) => break,
        }
    }
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

fn source(spec: &MountSpec) -> String {
    format!("vellum:{}", spec.volume)
}

fn mount_flags(spec: &MountSpec) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, spec.read_only);
    flags.set(MountFlags::NOSUID, !spec.suid);
    flags.set(MountFlags::NODEV, !spec.dev);
    flags.set(MountFlags::NOEXEC, !spec.exec);
    flags.set(MountFlags::NOATIME, spec.noatime);
    flags
}

fn user_options(spec: &MountSpec) -> String {
    let mut options = vec![
        format!("fsname={}", escaped(&source(spec))),
        "subtype=vellum".to_string(),
        "default_permissions".to_string(),
        if spec.read_only { "ro" } else { "rw" }.to_string(),
        "nosuid".to_string(),
        "nodev".to_string(),
    ];
    let flags =
        [(!spec.exec, "noexec"), (spec.noatime, "noatime"), (spec.allow_other, "allow_other")];
    options.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| name.to_string()));
    options.join(",")
}

/// `fusermount3` takes a comma for the next option unless a backslash is before it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

fn sort(error: io::Error) -> MountError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => MountError::Permission(error),
        _ => MountError::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_for_fusermount_escape_the_volume_and_never_ask_for_suid_or_dev() {
        let spec = MountSpec {
            mountpoint: "/mnt".into(),
            volume: "/a,b\\c".into(),
            read_only: true,
            suid: true,
            dev: true,
            exec: false,
            noatime: true,
            allow_other: true,
            threads: 2,
            read_ahead: 0,
        };
        assert_eq!(
            user_options(&spec),
            "fsname=vellum:/a\\,b\\\\c,subtype=vellum,default_permissions,ro,nosuid,nodev,noexec,noatime,\
             allow_other"
        );
    }
}
