export type { ReadinessCheck, ServiceModule } from "./module.ts";
