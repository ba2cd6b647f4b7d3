/** A file of the outbox as a folder listing shows it. */
export interface FileInfo {
  readonly name: string;
  readonly size: number;
}

/** A file open for appending. */
export interface OutboxFile {
  /** write(2) of all bytes at the end. Throws when the system refuses; some of the bytes may then have been written. */
  write(bytes: Uint8Array): void;
  /** fdatasync(2), off the event loop. */
  sync(callback: (error: Error | undefined) => void): void;
  /** Cuts the file to `size` bytes. */
  truncate(size: number): void;
  close(): void;
}

/** The few things the outbox asks of a file system, in one folder that it owns alone. */
export interface OutboxFiles {
  list(): readonly FileInfo[];
  /** Creates `name`, empty. */
  create(name: string): OutboxFile;
  /** At most `length` bytes from `position`; a fresh buffer that the caller may change. */
  read(name: string, position: number, length: number): Buffer;
  truncate(name: string, size: number): void;
  /** fdatasync(2) of a file that is not open here, off the event loop. */
  sync(name: string, callback: (error: Error | undefined) => void): void;
  remove(name: string): void;
  /** Makes creations and removals durable, off the event loop. */
  syncDirectory(callback: (error: Error | undefined) => void): void;
  /** Gives the folder up. */
  release(): void;
}
