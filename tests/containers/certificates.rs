//! An authority of a test's own, and a certificate by it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Files in PEM, for as long as this lives.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// For a server of this host name.
    pub(crate) fn of(host: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        openssl(dir.path(), &["-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem"])?;
        let (subject, names) = ("/CN=server", format!("subjectAltName=DNS:{host}"));
        let by = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        let server = ["-subj", subject, "-addext", &names, "-keyout", "server.key", "-out", "server.crt"];
        openssl(dir.path(), &[&server[..], &by[..]].concat())?;
        let [key, certificate] = ["server.key", "server.crt"].map(|name| fs::read_to_string(dir.path().join(name)));
        fs::write(dir.path().join("server.pem"), key? + &certificate?)?;
        // Who reads it in a container is another user.
        fs::set_permissions(dir.path().join("server.pem"), Permissions::from_mode(0o644))?;
        Ok(Self { dir })
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// The server's key and certificate.
    pub(crate) fn server(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }
}

fn openssl(dir: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]).args(arguments);
    let output = command.output().context("openssl cannot be run: install it")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
