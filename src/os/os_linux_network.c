/* os_linux_network.c -- whether a file lies on another machine, where locks and flushes may lie.
 *
 * Most file systems tell by their number. FUSE is one number for many kinds, and the kind stands in
 * the list of mounts: local disks (ntfs-3g mounts as fuseblk) and container layers are as good as
 * what lies under them, all other kinds (sshfs, s3fs, rclone, ...) count as remote, and so does a
 * kind that cannot be found out: whoever knows better vouches with evh_options.network_file_system.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define NETWORK_FUSE 0x65735546u

/* Where statfs.f_type says it: magic numbers from the kernel's headers and sources. */
static const uint32_t network_types[] = {
    0x6969,     /* nfs */
    0x517b,     /* smb */
    0xff534d42, /* cifs */
    0xfe534d42, /* smb2 */
    0x01021997, /* 9p */
    0x00c36400, /* ceph */
    0x5346414f, /* afs */
    0x6b414653, /* kafs */
    0x73757245, /* coda */
    0x564c,     /* ncp */
    0x01161970, /* gfs2 */
    0x7461636f, /* ocfs2 */
    0x0bd00bd0, /* lustre */
    0x19830326, /* fhgfs, beegfs */
    0x20030528, /* orangefs */
    0x786f4256, /* vboxsf */
    0xbacbacbc, /* vmhgfs */
    0x013111a8, /* ibrix */
    0xaad7aaea, /* panfs */
    0x47504653, /* gpfs */
};

/* The kind of the mount that a line of mountinfo describes, if it is that of `device`: "36 35 98:0
 * / /point options [tags ...] - kind source options". Cuts the line; NULL if it is not. */
static char *network_kind_in_line(char *line, dev_t device)
{
    unsigned device_major, device_minor;
    if (sscanf(line, "%*u %*u %u:%u", &device_major, &device_minor) != 2) return NULL;
    if (device_major != major(device) || device_minor != minor(device)) return NULL;
    char *kind = strstr(line, " - ");
    if (kind == NULL) return NULL;
    kind += 3;
    kind[strcspn(kind, " \n")] = '\0';
    return kind;
}

static bool network_fuse_is_remote(dev_t device)
{
    static const char *const local_kinds[] = {
        "fuseblk",       "fuse.fuse-overlayfs", "fuse.overlayfs", "fuse.unionfs-fuse",
        "fuse.mergerfs", "fuse.encfs",          "fuse.gocryptfs"};
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (mounts == NULL) return true;
    bool is_remote = true;
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, mounts) > 0) {
        const char *kind = network_kind_in_line(line, device);
        if (kind == NULL) continue;
        for (size_t i = 0; i < sizeof local_kinds / sizeof local_kinds[0]; i++) {
            if (strcmp(kind, local_kinds[i]) == 0) is_remote = false;
        }
        break;
    }
    free(line);
    fclose(mounts);
    return is_remote;
}

EVH_INTERNAL bool os_file_is_network(int file)
{
    OS_UNCANCELLED;
    struct statfs system;
    if (fstatfs(file, &system) != 0) return false;
    const uint32_t type = (uint32_t)system.f_type;
    for (size_t i = 0; i < sizeof network_types / sizeof network_types[0]; i++) {
        if (network_types[i] == type) return true;
    }
    if (type != NETWORK_FUSE) return false;
    struct stat status;
    return fstat(file, &status) != 0 || network_fuse_is_remote(status.st_dev);
}
